/*
 * The positions of slices, in LPS millimetres in the patient's frame of reference, as in DICOM.
 */

/**
 * Return the index of the plane that is nearest to a point, -1 if there are no planes.
 *
 * @param {{origin: number[], row: number[], column: number[]}[]} planes `origin` is the centre of
 *     the first pixel; `row` and `column` are the unit vectors along a row and along a column
 * @param {number[]} point in LPS millimetres
 */
export function nearestPlane(planes, point) {
    let best = -1;
    let least = Infinity;
    planes.forEach(({origin, row, column}, k) => {
        const distance = Math.abs(dot(cross(row, column), minus(point, origin)));
        if (distance < least) {
            [best, least] = [k, distance];
        }
    });
    return best;
}

/** Return a key for a slice that is unique in its series. */
export function sliceKey({instance, frame}) {
    return `${instance}/${frame ?? 1}`;
}

/** Return the frame number in an image id of the viewer, 1 if it has none. */
export function frameOf(imageId) {
    const found = /\/frames\/(\d+)|[?&]frame=(\d+)/.exec(imageId);
    return found ? Number(found[1] ?? found[2]) : 1;
}

function cross([a, b, c], [d, e, f]) {
    return [b * f - c * e, c * d - a * f, a * e - b * d];
}

function minus(a, b) {
    return a.map((each, n) => each - b[n]);
}

function dot(a, b) {
    return a.reduce((sum, each, n) => sum + each * b[n], 0);
}
