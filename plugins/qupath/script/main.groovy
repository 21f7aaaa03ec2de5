/*
 * Isoline for QuPath 0.5, 0.6 and 0.7 without any installation.
 *
 * In the script editor: open an image, select an annotation, run this script. It asks for the server,
 * the model and its parameters; objects appear while the slide is still running.
 *
 * With arguments, in the editor's "Run for project" or from the command line:
 *
 *     QuPath script isoline.groovy --project P.qpproj --save --args "--model nuclei --objects annotations"
 *
 *     --server URL        http://127.0.0.1:8765 without it
 *     --token TOKEN       or the environment variable ISOLINE_TOKEN
 *     --model NAME        without it the models of the server are listed
 *     --parameters JSON   of the model, such as {"sensitivity": 0.6}
 *     --options JSON      any other keys of a request, such as {"channel": ["DAPI"]}
 *     --objects WHERE     selected (the default), annotations or slide
 *
 * Made by plugins/qupath/build from the sources of the extension: change them, not this file.
 * Apache License 2.0.
 */

Map<String, String> given = Arguments.parse(binding.hasVariable('args') ? binding.getVariable('args') : null)
def image = QP.getCurrentImageData()
def gui = QuPathGUI.getInstance()
String secret = given['token'] ?: System.getenv('ISOLINE_TOKEN')
def client = new IsolineClient(given['server'] ?: 'http://127.0.0.1:8765', secret)

if (image == null) {
    throw new IllegalStateException('Open an image first.')
}
if (given['model']) {
    return Unattended.run(client, image, gui != null, given, binding)
}
if (gui != null) {
    Platform.runLater { Attended.ask(gui, image, client.getUrl(), secret ?: '') }
    return
}
client.models().each { model ->
    println model.get('name').getAsString() + ': ' + model.get('description').getAsString()
    println '    ' + model.get('parameters')
}

/** What follows `--args`. */
class Arguments {

    static final List<String> KNOWN = ['server', 'token', 'model', 'parameters', 'options', 'objects']

    static Map<String, String> parse(Object args) {
        Map<String, String> given = [:]
        List<String> words = []
        for (Object each in (args ?: [])) {
            words.addAll(split(String.valueOf(each)))
        }
        for (int k = 0; k < words.size(); k += 2) {
            String key = words[k].replaceFirst('^--', '')
            if (!KNOWN.contains(key) || k + 1 >= words.size()) {
                throw new IllegalArgumentException("${words[k]}: known are --${KNOWN.join(', --')}, each with a value")
            }
            given[key] = words[k + 1]
        }
        return given
    }

    /** QuPath may hand over all arguments as one word, or in brackets. */
    private static List<String> split(String text) {
        if (!(text =~ /^\s*\[?--\w+\s/)) {
            return [text]
        }
        List<String> words = []
        def matcher = text.trim().replaceFirst(/^\[(.*)\]$/, '$1') =~ /--\w+|\{.*?\}(?=\s+--|\s*$)|"[^"]*"|\S+/
        while (matcher.find()) {
            words.add(matcher.group().replaceAll(/^"|"$/, ''))
        }
        return words
    }
}

/** Runs without asking: in a batch, or headless. */
class Unattended {

    static long run(IsolineClient client, ImageData<BufferedImage> image, boolean hasWindow,
            Map<String, String> given, Object binding) {
        String where = given['objects'] ?: 'selected'
        if (!Isoline.WHERE.contains(where)) {
            throw new IllegalArgumentException("--objects: one of ${Isoline.WHERE.join(', ')}")
        }
        JsonObject options = JsonParser.parseString(given['options'] ?: '{}').getAsJsonObject()
        options.addProperty('model', given['model'])
        if (given['parameters']) {
            options.add('parameters', JsonParser.parseString(given['parameters']))
        }
        List<PathObject> parents = Isoline.parents(image, where)
        if (parents.isEmpty()) {
            println "Isoline: no annotation to run on (--objects ${where})"
        }
        long objects = 0
        for (PathObject parent in parents) {
            Run run = new Run(client, image, parent, options)
            if (hasWindow) {
                run.on { work -> Platform.runLater(work) }
            }
            Run.Status end = run.call()
            println "Isoline: ${end.message} ${end.objects} objects"
            objects += end.objects
            if (end.state != 'done') {
                throw new IllegalStateException(end.message)
            }
        }
        Isoline.record(image, client.getUrl(), options, where, step(client, given, binding))
        return objects
    }

    /** Return what repeats this run in a workflow's script: this file again, if it is one. */
    static String step(IsolineClient client, Map<String, String> given, Object binding) {
        Map<String, String> shown = [server: client.getUrl()] + given.findAll { it.key != 'token' }
        List<String> words = []
        shown.each { key, value -> words.addAll(["'--" + key + "'", Isoline.quoted(value)]) }
        def path = binding.hasVariable('qupath.script.file') ? binding.getVariable('qupath.script.file') : null
        return path == null
            ? '// Isoline: run isoline.groovy with the arguments ' + words.join(' ')
            : "run(new File(${Isoline.quoted(String.valueOf(path))}), [${words.join(', ')}] as String[])"
    }
}

/** Asks in windows, as the extension does. */
class Attended {

    static void ask(QuPathGUI gui, ImageData<BufferedImage> image, String url, String secret) {
        String[] server = SettingsDialog.ask(url, secret, gui.getStage())
        if (server == null) {
            return
        }
        IsolineClient client = new IsolineClient(server[0], server[1])
        Thread.startDaemon('isoline-models') {
            try {
                List<JsonObject> models = client.models()
                Platform.runLater { choose(gui, image, client, models) }
            } catch (IOException e) {
                Platform.runLater { say(gui, client.explain(e)) }
            }
        }
    }

    static void choose(QuPathGUI gui, ImageData<BufferedImage> image, IsolineClient client, List<JsonObject> models) {
        List<PathObject> parents = Isoline.parents(image, 'selected')
        if (parents.isEmpty()) {
            say(gui, 'Select an annotation first, or pass --objects slide.')
            return
        }
        JsonObject options = RunForm.ask(models, gui.getStage(), !image.getServer().isRGB())
        if (options == null) {
            return
        }
        def viewer = gui.getViewer()
        for (PathObject parent in parents) {
            Run run = new Run(client, image, parent, options)
            ProgressWindow.start(run, 'Isoline: ' + options.get('model').getAsString(), gui.getStage(),
                { [viewer.getCenterPixelX(), viewer.getCenterPixelY()] as double[] }, { })
        }
    }

    private static void say(QuPathGUI gui, String words) {
        Alert alert = new Alert(Alert.AlertType.INFORMATION, words)
        alert.initOwner(gui.getStage())
        alert.show()
    }
}
