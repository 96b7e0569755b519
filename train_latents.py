"""Prediction of future latents: python train_latents.py [overrides]. The same as `vtg future` of the package."""

from vtg.future import main

if __name__ == "__main__":
    main()
