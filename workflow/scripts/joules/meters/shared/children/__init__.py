"""Programs that read a meter with packages of their own. They import nothing of ours."""
