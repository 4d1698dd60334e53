import jinja2

PAGE = jinja2.Environment(autoescape=True).from_string(
    "<ul>{% for item in items %}<li class='{{ loop.cycle('odd', 'even') }}'>"
    "{{ item.name|title }}: {{ '%.2f'|format(item.price) }}</li>{% endfor %}</ul>"
)


def main(args):
    items = [{"name": f"thing & {number}", "price": number / 3} for number in range(args["size"])]
    return len(PAGE.render(items=items))
