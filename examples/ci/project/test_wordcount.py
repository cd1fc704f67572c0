import unittest

from wordcount import count


class CountTest(unittest.TestCase):
    def test_capitals_do_not_matter(self) -> None:
        self.assertEqual(count("Stream, stream!"), {"stream": 2})

    def test_no_text_has_no_words(self) -> None:
        self.assertEqual(count(""), {})


if __name__ == "__main__":
    unittest.main()
