"""Supervised fine-tuning: python train_sft.py [overrides]. The same as `vtg sft` of the installed package."""

from vtg.sft import main

if __name__ == "__main__":
    main()
