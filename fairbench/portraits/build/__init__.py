"""Build the embedded model from nothing: pictures, tokenizer, CLIP, autoencoder, U-Net, judges, card.

Run ``python -m fairbench.portraits.build``; every stage checkpoints, resumes, and is skipped when done.
"""
