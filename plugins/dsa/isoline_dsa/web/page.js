/* The page's own libraries: Girder's client, and geojs if a slide is shown. */
export const girder = window.girder;
export const geo = () => window.geo;

/** Return whether a map still exists: HistomicsUI removes it, with its layers, before any event. */
export const isThere = (map) => Boolean(map.interactor());
