package shop;

import java.util.List;
import java.util.Map;

public class Basket {
    // Once, before the first request: every request starts from here.
    private static final Map<String, Integer> PRICES = Map.of("apple", 40, "bread", 320);

    private static int requests = 0;

    public record Item(String name, Integer price, Integer count) {}

    public record Event(List<Item> items) {}

    public record Answer(int items, int total, int requests) {}

    public Answer handle(Event event) {
        requests++;
        int items = 0;
        int total = 0;
        for (Item item : event.items() == null ? List.<Item>of() : event.items()) {
            int count = item.count() == null ? 1 : item.count();
            int price = item.price() == null ? PRICES.get(item.name()) : item.price();
            items += count;
            total += count * price;
        }
        System.out.println(items + " items");
        return new Answer(items, total, requests);
    }
}
