// Runs one instance of the function poll until it is asked to end, or nobody has needed it for the idle timeout.
import { main } from "./confab/main.js";
import { poll } from "./poll.js";

await main(poll);
