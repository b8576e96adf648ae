"""Rows of sixteen small tasks for LoRAs to learn, made by seed; every sentence is our own. Eight sort a
note by a word, eight write it in another form.

Rows are OpenAI chat fine-tuning JSONL. No test row's note occurs among the training rows, and where a
task turns on words that can be held out (things, verbs, feelings, names) the test rows have some of
their own: the last third of each list. `peft_loras.py` beside it trains on them.
"""

import json
import random

NAMES = ["Anna", "Peter", "Mira", "Jonas", "Clara", "Felix", "Nadia", "Oscar", "Irene", "Hugo",
         "Ruth", "Emil"]
SURNAMES = ["Novak", "Berg", "Rossi", "Silva", "Moreau", "Keller", "Lind", "Horvat", "Costa", "Weber",
            "Duval", "Marsh"]
CITIES = ["Oslo", "Lisbon", "Vienna", "Dublin", "Prague", "Athens", "Madrid", "Warsaw", "Geneva",
          "Turin", "Ghent", "Riga"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September",
          "October", "November", "December"]
NUMBERS = ["two", "three", "four", "five", "six", "seven", "eight", "nine"]
COLOURS = ["red", "blue", "green", "white", "black", "yellow", "brown", "purple"]
GOODS = ["scarves", "lamps", "chairs", "kettles", "blankets", "notebooks", "mugs", "umbrellas",
         "baskets", "candles", "pillows", "hats"]
THINGS = {
    "fur": ["a hamster", "a goat", "a pony", "a rabbit", "a kitten", "a sheep", "a puppy", "a donkey",
            "a hedgehog", "a cow", "a ferret", "a calf"],
    "leaf": ["a cabbage", "an apple", "some lettuce", "a pear", "some spinach", "a turnip",
             "some cherries", "a carrot", "a melon", "some leeks", "a plum", "some beans"],
    "iron": ["a hammer", "a saw", "some pliers", "a wrench", "an axe", "a drill", "a chisel",
             "a shovel", "a file", "a crowbar", "a screwdriver", "some nails"],
    "cloth": ["a coat", "a shirt", "some gloves", "a skirt", "some socks", "a sweater", "a dress",
              "some trousers", "a scarf", "a jacket", "a blouse", "some mittens"],
}
FEELINGS = {
    "sun": ["was wonderful", "made everyone smile", "could not have been better", "was a great joy",
            "was delicious", "is highly recommended", "was a lovely surprise", "exceeded all hopes",
            "was simply perfect"],
    "rain": ["was awful", "ruined the evening", "was a waste of money", "made us angry",
             "was a great disappointment", "broke after a day", "was dull and cold",
             "should be avoided", "was a terrible mistake"],
    "fog": ["takes an hour", "begins at nine", "is near the station", "has two parts",
            "was held on Monday", "is for adults", "costs ten francs", "has a blue cover",
            "was moved to May"],
}
EVENTS = ["the concert", "the dinner", "the museum tour", "the new film", "the boat trip",
          "the lecture", "the workshop", "the festival", "the play", "the cooking class"]
VERBS = {
    "paint": "painted", "clean": "cleaned", "visit": "visited", "repair": "repaired",
    "order": "ordered", "open": "opened", "plant": "planted", "carry": "carried", "wash": "washed",
    "count": "counted", "measure": "measured", "move": "moved",
}
OBJECTS = ["the garden", "the old bridge", "the boxes", "the house", "the fence", "the shop",
           "the boat", "the kitchen", "the library", "the wagon"]
DESKS = {
    "north": ["the invoice is wrong", "I was charged twice", "the refund has not come",
              "the card was refused", "the price is not the agreed one", "I need a receipt",
              "my payment is pending", "the discount is missing", "the tax is too high"],
    "south": ["the parcel is late", "the box came to a neighbour", "the courier did not ring",
              "my order is stuck at customs", "the tracking page is empty", "half the parcel is lost",
              "please ship to another street", "the van left without unloading",
              "the delivery came a week early"],
    "east": ["the screen stays dark", "the handle came off", "the motor makes a noise",
             "the battery does not charge", "a wheel is bent", "the lid is cracked",
             "the fan no longer turns", "a screw is loose", "the lamp flickers"],
    "west": ["I forgot my password", "my login is locked", "please delete my profile",
             "the code by mail does not arrive", "I want another user name",
             "my account shows two names", "please change my e-mail address", "I cannot sign in",
             "the session ends each minute"],
}
SEASONS = {"spring": MONTHS[2:5], "summer": MONTHS[5:8], "autumn": MONTHS[8:11],
           "winter": [MONTHS[11], *MONTHS[:2]]}
URGENCY = {
    "high": ["at once", "right now", "immediately", "within the hour", "before noon today",
             "without any delay"],
    "middle": ["this week", "by Friday", "in a few days", "before the weekend", "within the week",
               "by the end of the week"],
    "low": ["some day", "when there is time", "next year perhaps", "whenever it suits",
            "at some later point", "if nothing else is left to do"],
}


class Draw:
    """Seeded choices; a test's come from the end of a list where words are held out."""

    def __init__(self, rng, test):
        self.rng, self.test = rng, test

    def any(self, words):
        return self.rng.choice(list(words))

    def held(self, words):
        cut = len(words) - len(words) // 3
        return self.rng.choice(words[cut:] if self.test else words[:cut])

    def labelled(self, lists):
        label = self.rng.choice(sorted(lists))
        return label, self.held(lists[label])


def sentence(text):
    return f"{text[0].upper()}{text[1:]}."


# ---- sort by a word ----


def kind(d):
    label, thing = d.labelled(THINGS)
    place = d.any([f"in {d.any(CITIES)}", f"on {d.any(DAYS)}", f"for {d.any(NAMES)}"])
    return f"{d.any(NAMES)} {d.any(['bought', 'found', 'saw', 'wants'])} {thing} {place}.", label


def mood(d):
    label, feeling = d.labelled(FEELINGS)
    event = f"{d.any(['', 'I think ', 'they say '])}{d.any(EVENTS)} in {d.any(CITIES)}"
    return sentence(f"{event} {feeling}"), label


def tense(d):
    verb = d.held(list(VERBS))
    who, what = d.any(NAMES), d.any(OBJECTS)
    when = d.any(["", f" in {d.any(CITIES)}", f" with {d.any(NAMES)}"])
    label = d.any(["before", "now", "later"])
    form = {"before": VERBS[verb], "now": f"has to {verb}", "later": f"will {verb}"}[label]
    return f"{who} {form} {what}{when}.", label


def speech(d):
    verb, what, who = d.held(list(VERBS)), d.any(OBJECTS), d.any(NAMES)
    label = d.any(["tell", "ask", "bid", "greet"])
    start = d.any({"tell": [""], "ask": ["Did", "Why did", "When did"],
                   "bid": ["Please", "Now", "Quickly"],
                   "greet": ["Good morning", "Hello", "Welcome"]}[label])
    return {
        "tell": f"{who} {VERBS[verb]} {what} on {d.any(DAYS)}.",
        "ask": f"{start} {who} {verb} {what}?",
        "bid": f"{start} {verb} {what}, {who}!",
        "greet": f"{start}, {who}, how nice to see you in {d.any(CITIES)}!",
    }[label], label


def party(d):
    count = d.any([1, 2, 3])
    people = d.rng.sample(NAMES, count)
    named = people[0] if count == 1 else f"{', '.join(people[:-1])} and {people[-1]}"
    deed = f"{VERBS[d.held(list(VERBS))]} {d.any(OBJECTS)} in {d.any(CITIES)}"
    return f"{named} {deed}.", ["solo", "pair", "trio"][count - 1]


def desk(d):
    label, fault = d.labelled(DESKS)
    start = d.any(["", "hello, ", f"since {d.any(DAYS)} ", "sorry, "])
    end = d.any(["", f", says {d.any(NAMES)}", f" in {d.any(CITIES)}"])
    return sentence(f"{start}{fault}{end}"), label


def season(d):
    label = d.any(sorted(SEASONS))
    month = d.any(SEASONS[label])
    deed = f"{VERBS[d.held(list(VERBS))]} {d.any(OBJECTS)} in {month}"
    left = f"{d.any(['before', 'after'])} {d.any(NAMES)} left {d.any(CITIES)}"
    return f"{d.any(NAMES)} {deed}, {left}.", label


def urgency(d):
    label, when = d.labelled(URGENCY)
    deed = f"{d.any(VERBS)} {d.any(OBJECTS)} in {d.any(CITIES)}"
    return f"{d.any(NAMES)} asks you to {deed} {when}.", label


# ---- write in another form ----


def date(d):
    day, month, year = d.rng.randint(1, 28), d.any(MONTHS), d.rng.randint(1990, 2029)
    text = d.any([f"{day} {month} {year}", f"{month} {day}, {year}", f"the {day} of {month} {year}"])
    answer = f"{year}-{MONTHS.index(month) + 1:02}-{day:02}"
    return f"{d.any(NAMES)} came to {d.any(CITIES)} on {text}.", answer


def order(d):
    item, colour, number, city = d.any(GOODS), d.any(COLOURS), d.any(NUMBERS), d.any(CITIES)
    text = d.any([f"{d.any(NAMES)} in {city} would like {number} {colour} {item}.",
                  f"Send {number} {item}, {colour} ones, to {city}.",
                  f"For {city}: {d.any(NAMES)} wants {colour} {item}, {number} of them."])
    return text, f"{item}; {colour}; {NUMBERS.index(number) + 2}; {city}"


def initials(d):
    first, middle, last = d.any(NAMES), d.any(NAMES), d.held(SURNAMES)
    return f"{first} {middle} {last} lives in {d.any(CITIES)}.", f"{first[0]}. {middle[0]}. {last}"


def record(d):
    name, city, day = d.any(NAMES), d.any(CITIES), d.any(DAYS)
    text = d.any([f"{name} will be in {city} on {day}.", f"On {day} we expect {name} in {city}.",
                  f"{city} is where {name} goes on {day}."])
    return text, json.dumps({"name": name, "city": city, "day": day[:3]})


def swap(d):
    one, other = d.rng.sample(NAMES, 2)
    verb, place = VERBS[d.held(list(VERBS))], d.any(CITIES)
    return f"{one} {verb} {d.any(OBJECTS)} for {other} in {place}.", f"{other} to {one}, {place}"


def total(d):
    count, price = d.any(NUMBERS), d.rng.randint(2, 9)
    text = f"{d.any(NAMES)} bought {count} {d.any(GOODS)} at {price} francs each."
    return text, f"{(NUMBERS.index(count) + 2) * price} francs"


def mail(d):
    first, last, city = d.any(NAMES), d.held(SURNAMES), d.any(CITIES)
    text = d.any([f"{first} {last} works in {city}.", f"In {city} ask for {first} {last}."])
    return text, f"{first}.{last}@{city}.example".lower()


def tags(d):
    colour, item, city = d.any(COLOURS), d.any(GOODS), d.any(CITIES)
    deed = f"{d.any(['left', 'lost', 'sold'])} {d.any(NUMBERS)} {colour} {item}"
    return f"{d.any(NAMES)} {deed} {d.any(['near', 'in'])} {city}.", f"#{city} #{item} #{colour}"


SORTS = "Sort this note by one word.\nNote: "
FORMS = "Write this note in its form.\nNote: "
TASKS = {
    **{make.__name__: (SORTS, make)
       for make in (kind, mood, tense, speech, party, desk, season, urgency)},
    **{make.__name__: (FORMS, make)
       for make in (date, order, initials, record, swap, total, mail, tags)},
}


def rows(task, train, test):
    """Rows of a task as conversations, to train on and to be judged by; the same at each call."""
    head, make = TASKS[task]
    seen, parts = set(), []
    for count, held in ((train, False), (test, True)):
        draw, part = Draw(random.Random(f"{task}/{held}"), held), []
        while len(part) < count:
            note, answer = make(draw)
            if note not in seen:
                seen.add(note)
                part.append([{"role": "user", "content": head + note},
                             {"role": "assistant", "content": answer}])
        parts.append(part)
    return parts


def write(path, part):
    path.write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in part))
