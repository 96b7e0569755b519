"""Training of predictors of latents: `train_latents.py`."""
