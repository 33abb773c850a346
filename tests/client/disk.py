"""Commands that see a small file system where everybody else sees a folder.

It is there for them alone, and gone with the last of them.
"""

import os

# What follows the folder is done there: `exec` of it, or with what is left in the folder told.
MOUNT = 'mount -t tmpfs -o "size=$1,mode=0777" none "$2"; shift 2; '


def cramped(size, folder, then='exec "$@"'):
    """What comes before a command that finds a file system of so many bytes at a folder."""
    # Whoever is root needs no other user for it, and keeps what root may.
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    script = ["sh", "-euc", MOUNT + then, "cramped", str(size), str(folder)]
    return ["unshare", *users, "--mount", *script]
