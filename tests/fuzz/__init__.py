"""Inputs that nobody wrote by hand: what a server said, kept, and what becomes of it when bytes change."""
