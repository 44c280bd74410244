"""What meters share: options, HTTP, digest authentication, files of /sys, child processes."""
