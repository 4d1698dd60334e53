import sqlite3


def main(args):
    with sqlite3.connect(":memory:") as database:
        database.execute("create table visits (page text, seconds real)")
        visits = ((f"page {number % 7}", number / 3) for number in range(args["size"]))
        database.executemany("insert into visits values (?, ?)", visits)
        query = "select page, count(*), avg(seconds) from visits group by page order by page"
        return database.execute(query).fetchall()
