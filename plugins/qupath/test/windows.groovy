// Opens the windows of the extension and of the script in a real JavaFX, with stubs for QuPath, and
// presses their buttons. Prints one JSON object.
import com.google.gson.Gson
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import isoline.qupath.IsolineExtension
import java.awt.image.BufferedImage
import java.util.concurrent.CountDownLatch
import java.util.concurrent.FutureTask
import javax.imageio.ImageIO
import javafx.application.Platform
import javafx.scene.Scene
import javafx.scene.control.ButtonBase
import javafx.scene.control.ComboBox
import javafx.scene.control.Label
import javafx.scene.control.TextField
import javafx.scene.layout.Pane
import javafx.scene.layout.VBox
import javafx.stage.Stage
import javafx.stage.Window
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.viewer.QuPathViewer
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.scripting.QP

def (script, askedText) = args
JsonObject asked = JsonParser.parseString(askedText).asJsonObject
Map said = [:]

def fx = { Closure work ->
    def task = new FutureTask(work)
    Platform.runLater(task)
    task.get()
}
def until = { String what, Closure condition ->
    long end = System.nanoTime() + 40_000_000_000L
    def found = fx(condition)
    while (!found) {
        if (System.nanoTime() > end) {
            throw new IllegalStateException("waited in vain for ${what}; windows: " + fx { Window.windows*.title })
        }
        Thread.sleep(20)
        found = fx(condition)
    }
    found
}
def nodes = { Window window, Class type -> window.scene.root.lookupAll('*').findAll { type.isInstance(it) } }
def window = { String title -> until("the window ${title}") { Window.windows.find { it.title == title && it.showing } } }
def press = { Window where, String text ->
    Platform.runLater { nodes(where, ButtonBase).find { it.text == text }.fire() }
}
def says = { Window where, String words ->
    until("\"${words}\"") { nodes(where, Label).find { it.text.contains(words) }?.text }
}

def picture = { Window where, String name ->
    def shot = fx { where.scene.snapshot(null) }
    def pixels = new BufferedImage((int) shot.width, (int) shot.height, BufferedImage.TYPE_INT_RGB)
    for (int y in 0..<pixels.height) {
        for (int x in 0..<pixels.width) {
            pixels.setRGB(x, y, shot.pixelReader.getArgb(x, y))
        }
    }
    ImageIO.write(pixels, 'PNG', new File(asked.get('pictures').asString, "qupath-${name}.png"))
}

def ready = new CountDownLatch(1)
Platform.startup { ready.countDown() }
ready.await()
def image = Harness.image(asked)
QP.current = image
QuPathGUI gui = new QuPathGUI(imageData: image, viewer: new QuPathViewer(x: 1500, y: 1500))
fx {
    gui.stage = new Stage(scene: new Scene(new Pane(), 300, 200), title: 'QuPath')
    gui.stage.show()
}
QuPathGUI.instance = gui
def extension = new IsolineExtension()
fx { extension.installExtension(gui) }
said.menu = fx { gui.extensions.items*.text }
def choose = { String item -> Platform.runLater { gui.extensions.items.find { it.text == item }.fire() } }

// a server that is not there
choose('Settings...')
Window wrong = window('Isoline: settings')
fx { nodes(wrong, TextField)[0].text = asked.get('nobody').asString }
press(wrong, 'OK')
choose('Run model...')
Window waiting = window('Isoline: waiting')
said.waiting = says(waiting, 'Trying again')
picture(waiting, 'waiting')
press(waiting, 'Cancel')
until('the wait to end') { !waiting.showing }

// settings
choose('Settings...')
Window settings = window('Isoline: settings')
fx { nodes(settings, TextField)[0].text = asked.get('url').asString }
press(settings, 'Test connection')
said.connection = says(settings, 'Connected')
picture(settings, 'settings')
press(settings, 'OK')

// run a model from the menu
choose('Run model...')
Window form = window('Isoline')
said.models = fx { nodes(form, ComboBox)[0].items.toList() }
fx { nodes(form, ComboBox)[0].value = 'Nuclei' }
picture(form, 'run')
fx { nodes(form, ComboBox)[0].value = 'Threshold' }
press(form, 'Run')
Window progress = window('Isoline: threshold')
said.run = says(progress, 'Done.')
fx { progress.hide() }
PathObject region = image.hierarchy.annotationObjects.first()
said.found = region.childObjects.size()

// move the view while another model runs, cancel it, and remove its results
choose('Run model...')
Window other = window('Isoline')
fx { nodes(other, ComboBox)[0].value = 'Slow' }
press(other, 'Run')
Window slow = window('Isoline: slow')
said.slow = says(slow, ' left')
gui.viewer.x = asked.getAsJsonArray('pan').get(0).asDouble
gui.viewer.y = asked.getAsJsonArray('pan').get(1).asDouble
picture(slow, 'progress')
Thread.sleep(1500) // the view is polled once a second
press(slow, 'Cancel')
said.cancelled = says(slow, 'Cancelled')
picture(slow, 'cancelled')
press(slow, 'Remove partial results')
said.removed = says(slow, 'removed')
said.after_removal = region.childObjects.size()
press(slow, 'Close')

// click
choose('Click to segment')
Window choice = window('Isoline')
fx { nodes(choice, ComboBox)[0].value = 'Flood' }
press(choice, 'Run')
Window clicks = window('Isoline: flood')
says(clicks, 'Mark an object')
fx {
    image.hierarchy.rootObject.addChildObjects(PathIO.readObjectsFromGeoJSON(
        new ByteArrayInputStream(asked.get('click').toString().bytes)))
    image.hierarchy.fireHierarchyChangedEvent(this, image.hierarchy.rootObject)
}
says(clicks, 'next object')
picture(clicks, 'click')
press(clicks, 'Next object')
said.clicked = says(clicks, 'Kept')
press(clicks, 'Close')
until('the window to close') { !clicks.showing }
said.results = image.hierarchy.annotationObjects.count { it.metadata['isoline.model'] == 'flood' }

// the script, with dialogs
fx { image.hierarchy.selectionModel.selectedObjects.add(image.hierarchy.annotationObjects.first()) }
new GroovyShell(new Binding('qupath.script.file': script,
    args: ['--server', asked.get('url').asString] as String[])).evaluate(new File(script))
press(window('Isoline: settings'), 'OK')
Window again = window('Isoline')
fx { nodes(again, ComboBox)[0].value = 'Threshold' }
press(again, 'Run')
said.script = says(window('Isoline: threshold'), 'Done.')
said.steps = image.historyWorkflow.steps*.script
println new Gson().toJson(said)
System.exit(0)
