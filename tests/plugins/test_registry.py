import pytest

from fairbench.errors import UserError
from fairbench.plugins.registry import find_method, list_methods

GOOD = '''
class Good:
    """Does little.

    And more.
    """

    name = "good"
    draw_class = "emergent"
    Config = fit = apply = object
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Install modules as a package of somebody else's that provides methods."""

    def install(package, entries, **modules):
        root = tmp_path / package
        info = root / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(["[fairbench.methods]", *lines]))
        for name, source in modules.items():
            (root / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(root)

    return install


def test_a_third_party_method_is_found_by_its_entry_point(plugin):
    plugin("theirs", {"good": "their_good:Good"}, their_good=GOOD)
    assert find_method("good").name == "good"
    entry = next(entry for entry in list_methods() if entry.name == "good")
    assert (entry.package, entry.summary, entry.problem) == ("theirs 1.0", "Does little.", None)


def test_listing_imports_no_method(plugin):
    plugin("loud", {"loud": "loud_method:Good"}, loud_method=GOOD + "\nraise RuntimeError('imported')")
    assert next(entry for entry in list_methods() if entry.name == "loud").problem is None
    with pytest.raises(UserError, match=r"'loud' of loud 1.0 cannot be loaded: RuntimeError: imported"):
        find_method("loud")


def test_a_package_that_passes_its_method_on_is_not_broken(plugin):
    plugin("theirs", {"good": "their_front:Good"}, their_front="from their_back import Good", their_back=GOOD)
    assert next(entry for entry in list_methods() if entry.name == "good").problem is None
    assert find_method("good").name == "good"


def test_a_plugin_that_leaves_python_is_named(plugin):
    plugin("rude", {"rude": "rude_method:Good"}, rude_method="raise SystemExit(3)")
    with pytest.raises(UserError, match=r"'rude' of rude 1.0 cannot be loaded: SystemExit: 3"):
        find_method("rude")


@pytest.mark.parametrize(
    ("source", "problem"),
    [("class Good(:", "SyntaxError"), ("x = 1", "no class Good in")],
    ids=["syntax", "class"],
)
def test_a_broken_plugin_is_named_and_takes_no_other_with_it(plugin, source, problem):
    plugin("mixed", {"broken": "broken_one:Good", "gone": "no_such_module:X", "good": "good_one:Good"},
           broken_one=source, good_one=GOOD)  # fmt: skip
    problems = {entry.name: entry.problem for entry in list_methods()}
    assert problem in problems["broken"]
    assert "no_such_module" in problems["gone"]
    assert problems["good"] is None


def test_an_unknown_method_names_the_nearest(plugin):
    plugin("theirs", {"goodness": "their_good:Good"}, their_good=GOOD)
    with pytest.raises(UserError, match="unknown method 'godness': did you mean 'goodness'"):
        find_method("godness")


def test_two_packages_with_one_name_are_refused(plugin):
    plugin("one", {"same": "one_good:Good"}, one_good=GOOD)
    plugin("two", {"same": "two_good:Good"}, two_good=GOOD)
    with pytest.raises(UserError, match=r"one 1.0 and two 1.0|two 1.0 and one 1.0"):
        find_method("same")


def test_a_plugin_that_takes_a_name_of_ours_is_refused_with_both_named(plugin):
    """Neither wins in silence: which one made a number would depend on the order of directories."""
    plugin("bold", {"original": "bold_one:Good"}, bold_one=GOOD)
    with pytest.raises(UserError, match=r"provide the method 'original'.*bold 1.0.*uninstall one of them"):
        find_method("original")
    assert find_method("biased_dft").name == "biased_dft"


def test_a_class_that_is_no_method_is_refused(plugin):
    plugin("half", {"half": "half_one:Good"}, half_one="class Good:\n    name = 'half'")
    with pytest.raises(UserError, match="lacks draw_class, Config, fit, apply"):
        find_method("half")


def test_our_own_methods_are_there():
    assert {"original", "biased_dft"} <= {entry.name for entry in list_methods()}


def test_listing_imports_no_package_around_a_method(plugin, tmp_path):
    plugin("wrapped", {"wrapped": "wrapping.inner:Good", "lost": "wrapping.inner.more:Good"})
    folder = tmp_path / "wrapped" / "wrapping"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "inner.py").write_text(GOOD)
    found = {entry.name: entry for entry in list_methods()}
    assert (found["wrapped"].summary, found["wrapped"].problem) == ("Does little.", None)
    assert found["lost"].problem == "ImportError: no module wrapping.inner.more"
