"""What every training stage of the nano recipe shares: the loop, its budget, recorded speech, augmentation, autograd."""
