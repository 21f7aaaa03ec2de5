/* Regions as rings of [x, y] in image pixels. */

/** Return the corners of a drawn element of large_image_annotation. */
export function ringOf(element) {
    if (element.points) {
        return element.points.map(([x, y]) => [x, y]);
    }
    const [x, y] = element.center;
    const cos = Math.cos(element.rotation || 0);
    const sin = Math.sin(element.rotation || 0);
    return [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([i, j]) => {
        const dx = i * element.width / 2;
        const dy = j * element.height / 2;
        return [x + dx * cos - dy * sin, y + dx * sin + dy * cos];
    });
}

export function rectangle(x0, y0, x1, y1) {
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}
