"""What is made ready before a run: model files, their tokenizer, prompts, HumanEval.

Nothing here starts a runtime or reads a meter.
"""
