"""What the study says: claims, the article and its archive.

Numbers come from tables, and words claim no more than the claims permit.
"""
