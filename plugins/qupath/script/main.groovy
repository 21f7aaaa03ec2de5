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
 *     --prompts HOW       with a model that takes prompts, the points, boxes, lines and outlines of
 *                         --objects point at "one" object together, or at an object "each"
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
    Platform.runLater { Attended.ask(gui, image, client.getUrl(), secret ?: '', binding) }
    return
}
client.telling { words -> Unattended.tell(words) }.models().each { model ->
    println model.get('name').getAsString() + ': ' + model.get('description').getAsString()
    println '    ' + model.get('parameters')
}

/** What follows `--args`. */
class Arguments {

    static final List<String> KNOWN = ['server', 'token', 'model', 'parameters', 'options', 'objects', 'prompts']

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
        options.addProperty(RequestKeys.MODEL, given['model'])
        if (given['parameters']) {
            options.add(RequestKeys.PARAMETERS, JsonParser.parseString(given['parameters']))
        }
        List<Run> runs = given['prompts'] ? prompted(client, image, options, where, given['prompts'])
            : Isoline.parents(image, where).collect { new Run(client, image, it, options) }
        if (runs.isEmpty()) {
            println "Isoline: no annotation to run on (--objects ${where})"
        }
        long objects = 0
        for (Run run in runs) {
            if (hasWindow) {
                run.on { work -> Platform.runLater(work) }
            }
            RunStatus end = run.telling { status -> tell(status.waiting) }.call()
            println "Isoline: ${end.message} ${end.objects} objects"
            objects += end.objects
            if (end.state != 'done') {
                throw new IllegalStateException(end.message)
            }
        }
        Step.record(client, image, options, given.subMap(['prompts']) + [objects: where], binding)
        return objects
    }

    /** Print what a call waits for; an empty text says that the wait is over. */
    static void tell(String words) {
        if (words) {
            println "Isoline: ${words}"
        }
    }

    /** Return a run for what all prompts point at, or one for each. */
    private static List<Run> prompted(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            String where, String how) {
        if (!(how in ['one', 'each']) || where == 'slide') {
            throw new IllegalArgumentException('--prompts: one or each, of --objects selected or annotations')
        }
        List<Run> runs = []
        Isoline.drawn(image, where).groupBy { it.getROI().getZ() }.each { z, drawn ->
            JsonArray prompts = Prompts.of(drawn)
            for (JsonArray request in (how == 'each' ? Prompts.oneByOne(prompts) : [prompts])) {
                JsonObject asked = options.deepCopy()
                asked.add(RequestKeys.PROMPTS, request)
                if (image.getServer().nZSlices() > 1) {
                    asked.addProperty(RequestKeys.Z, z)
                }
                runs.add(new Run(client, image, image.getHierarchy().getRootObject(), asked))
            }
        }
        return runs
    }
}

/** The step of a workflow that makes the same run again: this file, if it is one, with arguments. */
class Step {

    static void record(IsolineClient client, ImageData<BufferedImage> image, JsonObject options,
            Map<String, String> more, Object binding) {
        JsonObject others = options.deepCopy()
        Map<String, String> given = [server: client.getUrl(), model: others.remove(RequestKeys.MODEL).getAsString()]
        if (others.has(RequestKeys.PARAMETERS)) {
            given['parameters'] = others.remove(RequestKeys.PARAMETERS).toString()
        }
        if (others.size() > 0) {
            given['options'] = others.toString()
        }
        List<String> words = []
        (given + more).each { key, value -> words.addAll(["'--" + key + "'", Isoline.quoted(value)]) }
        def path = binding.hasVariable('qupath.script.file') ? binding.getVariable('qupath.script.file') : null
        Isoline.record(image, client.getUrl(), options, more['objects'], path == null
            ? '// Isoline: run isoline.groovy with the arguments ' + words.join(' ')
            : "run(new File(${Isoline.quoted(String.valueOf(path))}), [${words.join(', ')}] as String[])")
    }
}

/** Asks in windows, as the extension does. */
class Attended {

    static void ask(QuPathGUI gui, ImageData<BufferedImage> image, String url, String secret, Object binding) {
        String[] server = SettingsDialog.ask(url, secret, gui.getStage())
        if (server == null) {
            return
        }
        IsolineClient client = new IsolineClient(server[0], server[1])
        WaitingWindow.models(client, gui.getStage(),
            { List<JsonObject> models -> choose(gui, image, client, models, binding) },
            { String words -> say(gui, words) })
    }

    static void choose(QuPathGUI gui, ImageData<BufferedImage> image, IsolineClient client,
            List<JsonObject> models, Object binding) {
        List<JsonObject> offered = (Isoline.models(models, false) + Isoline.models(models, true)).unique()
        JsonObject options = RunForm.ask(offered, gui.getStage(), !image.getServer().isRGB())
        if (options == null) {
            return
        }
        String name = options.get(RequestKeys.MODEL).getAsString()
        if (!Isoline.isAutomatic(offered.find { it.get('name').getAsString() == name })) {
            ClickWindow.open(client, image, options, gui.getStage(),
                { JsonObject request -> Step.record(client, image, request, [objects: 'slide'], binding) })
            return
        }
        List<PathObject> parents = Isoline.parents(image, 'selected')
        if (parents.isEmpty()) {
            say(gui, 'Select one or more areas first (annotations, TMA cores), or pass --objects slide.')
            return
        }
        def viewer = gui.getViewer()
        List<Run> runs = parents.collect { new Run(client, image, it, options) }
        ProgressWindow.start(runs, 'Isoline: ' + name, gui.getStage(),
            { [viewer.getCenterPixelX(), viewer.getCenterPixelY()] as double[] })
        Step.record(client, image, options, [objects: 'selected'], binding)
    }

    private static void say(QuPathGUI gui, String words) {
        Alert alert = new Alert(Alert.AlertType.INFORMATION, words)
        alert.initOwner(gui.getStage())
        alert.show()
    }
}
