"""What every training stage of the nano recipe shares: the loop, recorded speech, augmentation, autograd."""
