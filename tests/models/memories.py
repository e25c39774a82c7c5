"""A card whose memory can be worked out by hand."""


class OutOfMemory(RuntimeError):
    """What torch raises, by its words."""

    def __init__(self):
        super().__init__("CUDA out of memory. Tried to allocate 2.00 MiB.")


class Card:
    """Has ``total`` bytes; ``run(count)`` needs ``fixed + each * count ** power`` of them for its length."""

    def __init__(self, total, fixed=0, each=1, power=1):
        self.total, self.fixed, self.each, self.power = total, fixed, each, power
        self.peak, self.asked = 0, []

    def needs(self, count):
        return self.fixed + self.each * count**self.power

    def run(self, count):
        self.asked.append(count)
        if self.needs(count) > self.total:
            raise OutOfMemory
        self.peak = max(self.peak, self.needs(count))

    def free(self):
        return self.total

    def used_by(self, call):
        self.peak = 0
        call()
        return self.peak
