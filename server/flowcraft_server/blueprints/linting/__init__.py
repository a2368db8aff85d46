"""What is wrong with a blueprint before it runs: `linter` calls the modules beside it, one for each family of mistakes.

Imported by: `config`, `cli`, `api` and `testing`.
"""
