"""How people really write a question: with remarks around it, in haste, with slips."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

OPENINGS = (
    "Hi!",
    "Hello there.",
    "Hey,",
    "Good morning.",
    "Please help me out.",
    "Quick question:",
    "A question for you.",
    "OK, next one.",
    "So,",
    "Sorry if this is basic.",
    "This may be a silly question.",
    "I'm a beginner.",
    "I'm new to all of this.",
    "Total newbie here.",
    "I have no technical background at all.",
    "I'm twelve years old.",
    "For my homework:",
    "For a school report:",
    "I'm revising for an exam next week.",
    "I have a test tomorrow and I'm lost.",
    "We had this in class today and I didn't follow.",
    "My professor skipped over this one.",
    "I'm preparing a talk.",
    "I'm writing an article for our newsletter.",
    "I have a job interview on Monday.",
    "Someone asked me this in an interview and I froze.",
    "My boss brought this up in a meeting.",
    "A colleague mentioned it over lunch.",
    "Everyone on my team talks about it and I'm too embarrassed to ask.",
    "My daughter wants to know.",
    "My grandfather asked me this and I had no answer.",
    "My friends and I are arguing about this.",
    "I saw a video about this last night.",
    "I read about it in the newspaper.",
    "There was a long article on this that I didn't understand.",
    "A podcast I listen to keeps bringing it up.",
    "I came across the term in a book.",
    "Wikipedia was too complicated for me.",
    "I looked it up but the explanations were too long.",
    "I've wondered about this for years.",
    "I was lying awake thinking about this.",
    "Just curious:",
    "Out of curiosity,",
    "I was wondering,",
    "Can I ask you something?",
    "Tell me honestly:",
    "Settle a bet for me.",
    "I thought I understood this, but apparently not.",
    "I use it every day without knowing the theory.",
    "I know the word but not what is behind it.",
    "I've used this for years and never asked.",
    "We are planning a new project at work.",
    "I have to decide something by Friday.",
    "I start a new course in September.",
    "I'm switching careers.",
    "English is not my first language, so keep the words easy.",
    "In plain words please:",
    "Without too much jargon:",
    "As if I were a child:",
    "I only have a minute.",
    "Bear with me.",
    "Long story short,",
    "Not sure how to put this.",
    "Help!",
    "Yesterday something odd happened at work and this came up.",
    "I got stuck on page one of my textbook.",
    "My landlord, of all people, brought it up.",
    "The manual assumes that I know this already.",
    "They warned us about this on the first day.",
    "I keep seeing this in job ads.",
    "Our teacher says it comes up in every exam.",
    "I failed this question last time.",
    "Let's talk about something else.",
    "Thanks for the last answer. Now another thing.",
    "You seem to know a lot.",
)
"""Said before a question."""

CLOSINGS = (
    "Thanks!",
    "Thanks in advance.",
    "Thank you so much.",
    "Please.",
    "Cheers.",
    "Any help is welcome.",
    "I'm curious.",
    "I have a test tomorrow.",
    "It's for a school project.",
    "I need it for work.",
    "I never got it.",
    "Nobody could tell me so far.",
    "My teacher could not explain it well.",
    "The book makes no sense to me.",
    "I really want to understand this.",
    "I hope that's not a stupid question.",
    "Asking for a friend.",
    "Just the idea, no formulas.",
    "It keeps coming up.",
    "I only know the name.",
    "Somebody must have a good answer.",
    "That's all I want to know.",
    "I have been reading about it all day.",
    "What do you think?",
    "Can you help?",
    ":)",
    "haha",
    "lol",
    "pls",
    "thx",
)
"""Said after a question."""


def in_context(question: str, rng: random.Random) -> str:
    """The question with something said before it, after it, or both."""
    place = rng.random()
    if place < 0.7:
        question = f"{rng.choice(OPENINGS)} {question}"
    if place > 0.45:
        question = f"{question} {rng.choice(CLOSINGS)}"
    return question


def as_typed(question: str, stray_words: Sequence[str], rng: random.Random) -> str:
    """The question as somebody might type it, with remarks, stray words and slips."""
    if rng.random() < 0.35:
        question = in_context(question, rng)
    if rng.random() < 0.25:
        question = _among_other_words(question, stray_words, rng)
    for share, habit in _HABITS:
        if rng.random() < share:
            question = habit(question, rng)
    return question


def _among_other_words(question: str, stray_words: Sequence[str], rng: random.Random) -> str:
    """Among words that say nothing of the concept, most of them real, some never met before."""
    words = question.split()
    others = [
        rng.choice(stray_words).strip("?.,") if rng.random() < 0.7 else _unknown_word(rng)
        for _ in range(rng.choice((1, 1, 2, 4, 7)))
    ]
    # One by one anywhere, or all of them before or behind.
    if rng.random() < 0.5:
        for other in others:
            words.insert(rng.randrange(len(words) + 1), other)
    elif rng.random() < 0.5:
        words = [*others, *words]
    else:
        words = [*words, *others]
    return " ".join(words)


def _unknown_word(rng: random.Random) -> str:
    syllables = (rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(4))
    return "".join(syllables)[: rng.randint(2, 8)]


def beside_another_matter(question: str, stray_words: Sequence[str], rng: random.Random) -> str:
    """With 4 to 14 words in a row, which are about something else, before or behind it."""
    start = rng.randrange(len(stray_words))
    matter = " ".join(stray_words[start : start + rng.randint(4, 14)])
    return f"{matter} {question}" if rng.random() < 0.6 else f"{question} {matter}"


def _words_short(question: str, rng: random.Random) -> str:
    kept = [word for word in question.split() if rng.random() > 0.15]
    return " ".join(kept) or question


def _with_a_slip(text: str, rng: random.Random) -> str:
    """Two letters swapped, or one left out."""
    place = rng.randrange(len(text))
    pair = text[place : place + 2]
    return text[:place] + (pair[::-1] if rng.random() < 0.5 else pair[1:]) + text[place + 2 :]


def _without_mark(question: str, rng: random.Random) -> str:
    return question.rstrip("?.!")


def _lower_case(question: str, rng: random.Random) -> str:
    return question.lower()


# Each habit with the share of questions on which it is tried.
_HABITS: tuple[tuple[float, Callable[[str, random.Random], str]], ...] = (
    (0.20, _words_short),
    (0.10, _with_a_slip),
    (0.15, _without_mark),
    (0.22, _lower_case),
)
