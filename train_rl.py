"""Reinforcement learning: python train_rl.py [overrides]. The same as `vtg rl` of the installed package."""

from vtg.rl import main

if __name__ == "__main__":
    main()
