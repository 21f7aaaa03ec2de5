package qupath.lib.plugins.workflow;

import java.util.Map;

public class DefaultScriptableWorkflowStep implements WorkflowStep {

    private final String script;

    public DefaultScriptableWorkflowStep(String name, Map<String, ?> parameters, String script) {
        this.script = script;
    }

    public String getScript() {
        return script;
    }
}
