import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.Request;
import org.junit.runner.Result;
import org.junit.runner.manipulation.Filter;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/**
 * Runs test classes without the tests named in a file, one "Class.method" a line: Suite FILE CLASS...
 * Tells of each test as it ends, so that a run that is cut off has told what it had.
 */
public class Suite {
    public static void main(String[] arguments) throws Exception {
        Set<String> leftOut = new HashSet<>(Files.readAllLines(Path.of(arguments[0])));
        List<Class<?>> classes = new ArrayList<>();
        for (int i = 1; i < arguments.length; i++) {
            classes.add(Class.forName(arguments[i]));
        }
        Filter filter = new Filter() {
            @Override
            public boolean shouldRun(Description test) {
                if (!test.isTest()) {
                    return test.getChildren().stream().anyMatch(this::shouldRun);
                }
                return !leftOut.contains(test.getTestClass().getSimpleName() + "." + test.getMethodName());
            }

            @Override
            public String describe() {
                return "what is not left out";
            }
        };
        JUnitCore core = new JUnitCore();
        core.addListener(new RunListener() {
            private long started;

            @Override
            public void testStarted(Description test) {
                started = System.nanoTime();
            }

            @Override
            public void testFinished(Description test) {
                System.out.printf("DONE %s %d ms%n", test.getDisplayName(), (System.nanoTime() - started) / 1_000_000);
            }
        });
        Result result = core.run(Request.classes(classes.toArray(new Class<?>[0])).filterWith(filter));
        for (Failure failure : result.getFailures()) {
            System.out.println("FAILED " + failure.getTestHeader() + ": " + failure.getMessage());
        }
        System.out.println("RAN " + result.getRunCount() + " FAILED " + result.getFailureCount());
        System.exit(result.wasSuccessful() ? 0 : 1);
    }
}
