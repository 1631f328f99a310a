"""How much smaller number formats would make a model, and what they would lose of it."""
