"""Why a method behaves as it does: gradients one can see, and which part of a model carries an effect."""
