"""Energy of LLM inference runtimes: measuring, grading, analysing, writing."""
