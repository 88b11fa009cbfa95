"""`tools/dev package` says at once what it cannot make packages of: uncommitted_test.py SOURCES."""
import os
import shutil
import subprocess
import sys
import tempfile

SOURCES = sys.argv[1]


def refusal(folder):
    # Also where the folder for temporary files is in a repository.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": os.path.dirname(folder)}
    done = subprocess.run([f"{folder}/tools/dev", "package"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "", done
    return done.stderr


def main():
    with tempfile.TemporaryDirectory() as room:
        folder = os.path.realpath(room) + "/tally"
        os.makedirs(f"{folder}/tools")
        shutil.copy(f"{SOURCES}/tools/dev", f"{folder}/tools/dev")
        said = refusal(folder)
        assert said == ("tools/dev: package: these sources are no git repository, of whose commit packages are made; without "
                        "one: tools/dev build product, and cmake --install build/product\n"), said
        git = ["git", "-C", folder, "-c", "user.name=nobody", "-c", "user.email=nobody@invalid"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=nothing"], check=True)
        said = refusal(folder)
        assert said == ("tools/dev: package: there are changes that are not committed, or files that git does not know: commit "
                        "them, or put them away\n"), said


main()
