"""What every analysis here holds to, and what is registered before measuring: tests and words.

Constants only: the room `analyse` computes with them, and the registered plan names them.
"""

ALPHA = 0.05
MARGIN = 0.05  # of equivalence: CodeCarbon's ratios err by 3 % (1 SD) against a wall meter
METRIC = "energy_j_per_token"

UNIT = "the log ratio of two arms in a block"
DIFFERENCE = "sign flips of the mean, exact where they can all be made, two-sided"
SIZE = "twice the one-sided t tail against the logarithm of one plus the margin"
EQUIVALENCE = "two one-sided t tests against the margin"
CORRECTION = "Holm, for each test in each family"
INTERVALS = ("pointwise 95 % of t", "simultaneous 95 % by Bonferroni's rule in each family")
FAMILIES = ("primary", "secondary", "fixed", "control")
# In the order in which they are looked for.
VERDICTS = (
    "more than 5 % apart",
    "apart, by less than 5 %",
    "apart, by how much is open",
    "equal within 5 %",
    "open",
)
NO_CLAIM = "no claim"  # stands for every word where none may be said
ALL_ARMS = "all"  # as the arm of a null control in which several take turns
