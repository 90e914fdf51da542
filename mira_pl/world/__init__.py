"""The emoji world: captioned pictures drawn from an open font, and the trainers of the models that live in it."""
