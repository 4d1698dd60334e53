import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.List;
import java.util.Map;

/** A handler as Lambda's documentation has them. */
public class Orders implements RequestHandler<Orders.Order, Orders.Receipt> {
    public enum Size {
        SMALL,
        LARGE
    }

    public static class Item {
        private String name;
        private int count;

        public String getName() {
            return name;
        }

        public void setName(String name) {
            this.name = name;
        }

        public int getCount() {
            return count;
        }

        public void setCount(int count) {
            this.count = count;
        }
    }

    public static class Order {
        public Size size;
        private List<Item> items;
        private Map<String, Item> byName;

        public void setItems(List<Item> items) {
            this.items = items;
        }

        public void setByName(Map<String, Item> byName) {
            this.byName = byName;
        }
    }

    public record Receipt(int total, Size size, List<Item> items, String request) {}

    @Override
    public Receipt handleRequest(Order order, Context context) {
        int total = 0;
        for (Item item : order.items) total += item.getCount();
        for (Item item : order.byName.values()) total += item.getCount();
        context.getLogger().log("total " + total);
        return new Receipt(total, order.size, order.items, context.getAwsRequestId());
    }
}
