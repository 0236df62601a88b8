"""``python -m solobox``, which is how torchrun starts it: ``torchrun --nproc-per-node 4 -m solobox train ...``."""

from solobox.cli import main

main()
