// Runs isoline.groovy like headless QuPath, with a current image and bindings for `args` and the file.
import com.google.gson.JsonParser
import qupath.lib.scripting.QP

def (script, asked) = args
QP.current = Harness.image(JsonParser.parseString(asked).asJsonObject)
def words = args.drop(2) as String[]
def binding = new Binding(args: words, 'qupath.script.file': script)
try {
    new GroovyShell(binding).evaluate(new File(script))
} catch (IllegalStateException | IllegalArgumentException e) {
    println "refused: ${e.message}"
}
def objects = QP.current.hierarchy.rootObject.childObjects.collectMany { [it] + it.childObjects }
println "objects: ${objects.count { it.metadata['isoline.model'] }}"
QP.current.historyWorkflow.steps.each { println "step: ${it.script}" }
