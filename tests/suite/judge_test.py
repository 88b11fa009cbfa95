"""What counts against Tally: a case that does not pass, and does with glibc's malloc."""
import os
import tempfile
import types
import unittest

import suite
from case import FAILED, PASSED, SKIPPED


class Judge(unittest.TestCase):
    def judged(self, verdict, *with_glibc, name="any", way="plain", baseline=False):
        """What counts, and how many of the runs with glibc's malloc were not asked for."""
        asked = iter(with_glibc)
        suite.run_case = lambda case, in_way, options: (next(asked) if in_way == "glibc" else verdict, "")
        with tempfile.TemporaryDirectory() as folder:
            table = suite.Table(os.path.join(folder, "table.json"), False)
            found = suite.judge("glibc", types.SimpleNamespace(name=name), [way], types.SimpleNamespace(baseline=baseline), table)
        return found, len(list(asked))

    def test_what_passes_is_not_asked_of_glibc(self):
        self.assertEqual(self.judged(PASSED), ([], 0))
        self.assertEqual(self.judged(PASSED, PASSED, baseline=True), ([], 0))

    def test_what_fails_or_skips_itself_here_alone_counts(self):
        for verdict in (FAILED, SKIPPED):
            self.assertEqual(self.judged(verdict, PASSED, PASSED, PASSED), (["glibc/any (plain)"], 0))

    def test_what_does_not_pass_with_glibc_each_time_does_not(self):
        for verdict in (FAILED, SKIPPED):
            for with_glibc in (FAILED, SKIPPED):
                self.assertEqual(self.judged(verdict, with_glibc), ([], 0))
            self.assertEqual(self.judged(verdict, PASSED, PASSED, FAILED), ([], 0))

    def test_what_is_known_does_not(self):
        self.assertEqual(self.judged(FAILED, name="malloc/mallocfork2", way="jemalloc"), ([], 0))


unittest.main()
