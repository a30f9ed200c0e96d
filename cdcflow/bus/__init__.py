"""Brokers between pipelines: a target to the one that publishes, a source to those that apply.

`formats` says what a row is as a message; a folder for each broker says how messages get there and come from there.
"""
