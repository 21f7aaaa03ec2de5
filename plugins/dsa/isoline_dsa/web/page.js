/* What the page brings: Girder's client, and geojs where a slide is shown. */
export const girder = window.girder;
export const geo = () => window.geo;

/** Whether a map is still there: HistomicsUI takes it away, with all its layers, before it says so. */
export const isThere = (map) => Boolean(map.interactor());
