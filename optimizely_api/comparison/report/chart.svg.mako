## A chart as SVG that takes its colours from the page: `picture` is a charts.Picture.
<%!
from optimizely_api.comparison.report.drawing import Path, Symbol
%>
<%def name="svg(picture)">
<svg role="img" aria-labelledby="${picture.name}-title ${picture.name}-desc" viewBox="0 0 ${picture.drawing.width} ${"%g" % picture.drawing.height}">
<title id="${picture.name}-title">${picture.title}</title>
<desc id="${picture.name}-desc">${picture.description}</desc>
% for mark in picture.drawing.marks:
% if isinstance(mark, Path):
<path class="${mark.css}" d="${mark.d}"/>
% elif isinstance(mark, Symbol):
<path class="${mark.css}" transform="translate(${"%g" % mark.x} ${"%g" % mark.y})" d="${mark.d}"/>
% else:
<text class="${mark.css}" x="${"%g" % mark.x}" y="${"%g" % mark.y}" text-anchor="${mark.anchor}">${mark.text}</text>
% endif
% endfor
</svg>
</%def>
