"""What touches the operating system and knows no study.

Processes, the measuring lock, the state of the machine, downloads, virtual environments. No energy
is read here, and no runtime is named.
"""
