#!/usr/bin/env python3
"""The help of each command, in the form that commands.h tells, and the man pages that are made of it.

usage: tally_help_test.py TALLY LIBRARY MAN_PAGES
"""

import os
import re
import shutil
import subprocess
import sys
import unittest

from tool import ToolTest

PAGES = sys.argv[3]


class HelpTest(ToolTest):
    def commands(self):
        """{name: what it does} of all, without `help`."""
        found = dict(re.findall(r"^  ([a-z]+) +(.*)", self.call("help")[0], re.MULTILINE))
        del found["help"]
        self.assertIn("run", found)
        return found


class Help(HelpTest):
    def test_has_its_form(self):
        for name in self.commands():
            with self.subTest(name):
                text, err, status = self.call(name, "--help")
                self.assertEqual((err, status), ("", 0))
                self.assertRegex(text, rf"^usage: tally {name}( .*)?\n(       .*\n)*\n")
                self.assertRegex(text, r"\n  --help  +\S")
                self.assertRegex(text, rf"\n\n  tally {name}\b.*\n")
                self.assertRegex(text, r"\nexit status:.*\n(  +.*\n)*  2  +the command line cannot be understood\n")
                self.assertEqual([line for line in text.splitlines() if len(line) > 110 or line != line.rstrip()], [])
                self.assertEqual(self.call("help", name)[0], text)
                self.assertEqual(self.call(name, "-h")[0], text)

    def test_is_pointed_to(self):
        for name in self.commands():
            with self.subTest(name):
                out, err, status = self.call(name, "--no-such-option")
                self.assertEqual((out, status), ("", 2))
                self.assertRegex(err, rf"^tally {name}: .+; tally {name} --help shows how it is used\n$")


class ManPages(HelpTest):
    def test_there_is_one_of_each(self):
        self.assertEqual(sorted(os.listdir(PAGES)),
                         sorted(["tally.1", "tally-dump.1", *(f"tally-{name}.1" for name in self.commands())]))

    def shown(self, name):
        done = subprocess.run(["man", "-l", "--warnings", "-E", "UTF-8", os.path.join(PAGES, name)], capture_output=True,
                              text=True, env={**self.env, "MANWIDTH": "100", "MAN_KEEP_FORMATTING": "", "LC_ALL": "C.UTF-8"},
                              timeout=60)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        return re.sub(r"\s+", " ", done.stdout)

    def test_show_what_the_help_says(self):
        if not shutil.which("man") or not shutil.which("groff"):
            self.skipTest("man is not installed")
        for name, summary in self.commands().items():
            with self.subTest(name):
                page = self.shown(f"tally-{name}.1")
                self.assertIn(f"NAME tally-{name} - {summary} SYNOPSIS tally {name}", page)
                for section in "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO":
                    self.assertIn(f" {section} ", page)
                # Each word of the help, in whatever order.
                words = self.call("help", name)[0].replace("exit status:", "").replace("usage:", "").split()
                self.assertEqual([word for word in words if word.lower() not in page.lower()], [])
        page = self.shown("tally.1")
        for name, summary in self.commands().items():
            self.assertIn(f" {name} {summary}", page)

    def test_are_sound(self):
        if not shutil.which("mandoc"):
            self.skipTest("mandoc is not installed")
        for name in os.listdir(PAGES):
            done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", os.path.join(PAGES, name)],
                                  capture_output=True, text=True, timeout=60)
            self.assertEqual([line for line in done.stdout.splitlines() if "missing date" not in line], [])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
