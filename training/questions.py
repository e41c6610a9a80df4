"""Ways of asking about a concept card.

`{phrase}` stands for the concept as it reads after "What is" ("a hash table"), `{name}` for that or
an alias, which may be a plural ("hash maps"), `{other}` for what a `versus` facet compares with.
"""

from __future__ import annotations

import random

from training.cards import Card

TEMPLATES: dict[str, tuple[str, ...]] = {
    "definition": (
        "What is {phrase}?",
        "What exactly is {phrase}?",
        "What's {phrase}?",
        "What is meant by {name}?",
        "What does {phrase} mean?",
        "What do people mean by {name}?",
        "Explain {name}.",
        "Explain {name} to me.",
        "Can you explain {name}?",
        "Could you explain what {phrase} is?",
        "Define {name}.",
        "Give me a definition of {name}.",
        "How would you define {phrase}?",
        "Describe {name}.",
        "Tell me about {name}.",
        "Tell me what {phrase} is.",
        "I keep hearing about {name}. What is it?",
        "What should I know about {name}?",
        "I don't understand {name}. Can you help?",
        "Help me understand {name}.",
        "Please introduce me to {name}.",
        "What is the idea behind {name}?",
        "In simple terms, what is {phrase}?",
        "Explain {name} like I'm new to it.",
        "My teacher mentioned {name}. What is that?",
        "What are the basics of {name}?",
        "Give me an overview of {name}.",
        "{name}?",
        "{name}",
        "what is {phrase}",
        "meaning of {name}",
        "Briefly, what is {phrase}?",
        "Briefly explain {name}.",
        "Give me a concise explanation of {name}.",
        "Summarize {name} for me.",
        "Explain {name} in detail.",
        "Give me a detailed explanation of {name}.",
        "I'd like a well-structured explanation of {name}.",
        "Walk me through the concept of {name}.",
        "Who can tell me what {phrase} is?",
        "What would you say {phrase} is?",
        "How do you explain {name} to a beginner?",
    ),
    "how": (
        "How does {phrase} work?",
        "How exactly does {phrase} work?",
        "How does {phrase} actually work?",
        "Explain how {phrase} works.",
        "Can you explain how {phrase} works?",
        "Describe how {phrase} works.",
        "What happens inside {phrase}?",
        "What is the mechanism behind {name}?",
        "Walk me through how {phrase} works.",
        "How is {phrase} put to work?",
        "What goes on behind the scenes with {name}?",
        "What makes {phrase} work?",
        "how does {phrase} work",
        "In practice, how does {phrase} work?",
        "What are the inner workings of {name}?",
        "Tell me how {phrase} functions.",
        "Show me the mechanics of {name}.",
        "Briefly, how does {phrase} work?",
        "Explain in detail how {phrase} works.",
        "I want to know how {phrase} works.",
    ),
    "why": (
        "Why does {phrase} matter?",
        "Why is {phrase} important?",
        "Why is {phrase} useful?",
        "Why should I care about {name}?",
        "Why do people care about {name}?",
        "What is {phrase} good for?",
        "What is the point of {name}?",
        "What is the purpose of {phrase}?",
        "What are the benefits of {name}?",
        "What are the advantages of {name}?",
        "Why would anyone need {phrase}?",
        "Why do we need {name}?",
        "What makes {name} important?",
        "What would we lose without {name}?",
        "Explain why {phrase} matters.",
        "why is {phrase} important",
        "Tell me why {phrase} is worth knowing about.",
        "What role does {phrase} play?",
        "Briefly, why does {phrase} matter?",
        "Explain in detail why {phrase} is important.",
    ),
    "example": (
        "Give me an example of {name}.",
        "Can you give an example of {name}?",
        "Could you show me an example of {name}?",
        "What is an example of {phrase}?",
        "Show me {name} in action.",
        "Where would I meet {name} in real life?",
        "What does {phrase} look like in practice?",
        "Is there a concrete case of {name}?",
        "I need an example to understand {name}.",
        "Illustrate {name} with an example.",
        "Do you have a real-world example of {name}?",
        "example of {name}",
        "Name one use of {name}.",
        "Where is {phrase} found or used?",
    ),
    "limit": (
        "What are the limits of {name}?",
        "What are the limitations of {phrase}?",
        "What are the drawbacks of {name}?",
        "What are the disadvantages of {name}?",
        "What is the downside of {phrase}?",
        "What can go wrong with {name}?",
        "What is the catch with {name}?",
        "What is a trade-off of {name}?",
        "Is there a problem with {name}?",
        "What should I watch out for with {name}?",
        "Where does {phrase} fall short?",
        "What do people get wrong about {name}?",
        "What are the risks of {name}?",
        "limitations of {name}",
        "Does {phrase} have any weaknesses?",
    ),
    "when": (
        "When should I use {phrase}?",
        "When is {phrase} used?",
        "When does {phrase} come into play?",
        "When do people use {name}?",
        "When would I need {phrase}?",
        "In which situations does {phrase} make sense?",
        "Under what circumstances does {phrase} occur?",
        "When does {phrase} happen?",
        "When is {phrase} the right choice?",
        "when to use {name}",
        "When will I come across {name}?",
    ),
    "versus": (
        "What is the difference between {phrase} and {other}?",
        "What's the difference between {name} and {other}?",
        "How does {phrase} differ from {other}?",
        "How is {phrase} different from {other}?",
        "Compare {phrase} with {other}.",
        "Compare {name} and {other}.",
        "{name} vs {other}?",
        "{name} versus {other}: what is the difference?",
        "How does {phrase} compare to {other}?",
        "Is {phrase} the same as {other}?",
        "What sets {phrase} apart from {other}?",
        "What is the difference between {other} and {phrase}?",
        "Compare {other} with {name}.",
        "I mix up {name} and {other}. How do they differ?",
    ),
}

MENTIONS = (
    "My boss mentioned {name}.",
    "A friend told me about {name}.",
    "I keep reading about {name}.",
    "I have heard of {name} but can't explain it.",
    "I'm confused about {name}.",
    "I'm reading up on {name}.",
    "I stumbled over {name} today.",
    "I need to understand {name} for work.",
    "I got asked about {name}.",
    "I have to give a talk on {name}.",
    "I know a little about {name}.",
    "Our lecture today was about {name}.",
    "We are discussing {name} in class.",
    "There is a chapter on {name} in my book.",
    "My exam covers {name}.",
    "My notes just say {name}.",
    "The documentation mentions {name}.",
    "The article goes on and on about {name}.",
    "Somebody on the radio talked about {name}.",
    "In a meeting they brought up {name}.",
    "Everybody talks about {name}.",
    "My question is about {name}.",
    "Let's talk about {name}.",
    "{name}, I see that everywhere.",
)
"""First sentences that name the concept, so that a follow-up can ask about it."""

FOLLOW_UPS: dict[str, tuple[str, ...]] = {
    "definition": (
        "What is it?",
        "What is that?",
        "What does that mean?",
        "What exactly is it?",
        "Define it, please.",
        "Can you explain it?",
        "What are they talking about?",
        "Remind me what that is.",
    ),
    "how": (
        "How does it work?",
        "And how does that work?",
        "How exactly?",
        "how so",
        "What happens there?",
        "Explain the mechanism.",
        "How is it done?",
        "Walk me through it.",
    ),
    "why": (
        "Why does it matter?",
        "And why is that important?",
        "What is it good for?",
        "Why should I care?",
        "What does it buy us?",
        "What is the benefit?",
        "What's the point?",
    ),
    "example": (
        "Can you give me an example?",
        "For example?",
        "Show me an example, please.",
        "What would be an example?",
        "Do you have a concrete case?",
        "Where would I see that?",
    ),
    "limit": (
        "What is the downside?",
        "Are there any limits?",
        "And what can go wrong?",
        "What are the drawbacks?",
        "Where is the catch?",
        "What should I watch out for?",
    ),
    "when": (
        "When would I use it?",
        "When does that come up?",
        "And when?",
        "When is it the right choice?",
        "In which situations?",
    ),
    "versus": (
        "How does it differ from {other}?",
        "Is it the same as {other}?",
        "Isn't that just {other}?",
        "Compare it with {other}.",
    ),
}
"""Questions about a concept that has just been named."""


def ask(card: Card, facet: str, template: str, rng: random.Random) -> str:
    """Fill a template of a facet with one of the card's names."""
    other = card.versus_phrase if facet == "versus" else ""
    name = rng.choice((card.phrase, *card.aliases))
    return _capitalized(template.format(phrase=card.phrase, name=name, other=other), template)


def ask_after_mention(card: Card, facet: str, rng: random.Random) -> str:
    """A sentence that names the concept, then a question that only says 'it'."""
    mention = rng.choice(MENTIONS)
    name = rng.choice((card.phrase, *card.aliases))
    return f"{_capitalized(mention.format(name=name), mention)} {follow_up(card, facet, rng)}"


def follow_up(card: Card, facet: str, rng: random.Random) -> str:
    """A question about a facet of the concept that the conversation has just named."""
    return rng.choice(FOLLOW_UPS[facet]).format(other=card.versus_phrase)


def all_questions(card: Card, facet: str) -> list[str]:
    """The card's own questions for a facet, then every template with every name, no repeats."""
    questions = [*card.facets[facet].asks, *card.facets[facet].hints]
    other = card.versus_phrase if facet == "versus" else ""
    for template in TEMPLATES[facet]:
        names = (card.phrase, *card.aliases) if "{name}" in template else (card.phrase,)
        for name in names:
            text = template.format(phrase=card.phrase, name=name, other=other)
            questions.append(_capitalized(text, template))
    return list(dict.fromkeys(questions))


def normalize(question: str) -> str:
    """A wording without case, punctuation and outer spaces, to tell whether two are the same."""
    return " ".join("".join(c if c.isalnum() else " " for c in question.lower()).split())


def _capitalized(text: str, template: str) -> str:
    """Upper-case the first letter where the template starts with a name and is a sentence."""
    if template.startswith("{") and template.endswith(("?", ".")):
        return text[0].upper() + text[1:]
    return text
