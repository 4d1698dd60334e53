import json


def main(args):
    people = [
        {"id": number, "name": f"person {number}", "tags": ["a", "b", "c"], "score": number / 7}
        for number in range(args["size"])
    ]
    text = json.dumps(people)
    return sum(person["score"] for person in json.loads(text))
