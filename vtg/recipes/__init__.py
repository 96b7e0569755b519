"""Published trainings to start from: what each is, and what it scored; their settings are experiments of conf/."""

from vtg.recipes.published_recipes import RECIPES, Recipe, Score

__all__ = ["RECIPES", "Recipe", "Score"]
