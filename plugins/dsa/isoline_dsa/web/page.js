/* What the page brings: Girder's client, and geojs where a slide is shown. */
export const girder = window.girder;
export const geo = () => window.geo;
