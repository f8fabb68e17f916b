"""Learning from chosen rollouts: best-of-N behavioural cloning and direct preference optimisation, through TRL.

    from pawl.training.supervised.select import best_datums, pair_datums

`select` is pure and light; `sft` and `preference` import torch and TRL, and run inside the job alone.
"""
