"""Debiasing methods: one file, one class each."""
