## The page of a report. `h` escapes every expression; a def writes its own markup and is an empty expression itself.
<%namespace name="chart" file="chart.svg.mako"/>\
<%def name="header(cell, scope)">\
% if cell:
<th scope="${scope}">${cell}</th>\
% else:
<td></td>\
% endif
</%def>\
<%def name="table(rows, label)">\
<div class="scroll" tabindex="0" role="region" aria-label="${label}">
<table>
<thead><tr>\
% for cell in rows[0]:
${header(cell, "col")}\
% endfor
</tr></thead>
<tbody>
% for row in rows[1:]:
<tr>${header(row[0], "row")}\
% for cell in row[1:]:
<td>${cell}</td>\
% endfor
</tr>
% endfor
</tbody>
</table>
</div>
</%def>\
<%def name="picture(each, level=3)">\
<div class="picture">
<h${level}>${each.title}</h${level}>
${chart.svg(each)}
% if each.note:
<p class="small">${each.note}</p>
% endif
% if len(each.table) > 1:
<details><summary>The figures: ${each.title}</summary>
${table(each.table, f"The figures: {each.title}")}</details>
% endif
</div>
</%def>\
<%def name="code(lines)">\
<pre><code>${"\n".join(lines)}</code></pre>
</%def>\
<%def name="sentences(title, items)">\
% if items:
<h2>${title}</h2>
<ul>
% for item in items:
<li>${item}</li>
% endfor
</ul>
% endif
</%def>\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Blocking against asyncio</title>
<style>
<%include file="page.css"/>
% for name, style in styles.items():
.${name} { --mode: ${style.light}; --dashes: ${style.dashes} }
% endfor
:root { --page: ${colours["light"]} }
@media (prefers-color-scheme: dark) {
:root { --page: ${colours["dark"]} }
% for name, style in styles.items():
.${name} { --mode: ${style.dark} }
% endfor
}
</style>
</head>
<body>
<main>
<header class="first">
<h1>Blocking against asyncio</h1>
<p class="headline">${headline}</p>
% if headline_figures:
<p class="figures">${headline_figures}</p>
% endif
% if report["interrupted"]:
<p class="notice">This comparison was interrupted: what is missing was not measured.</p>
% endif
% if first_pair:
<div class="pair">
% for each in first_pair:
${picture(each, 2)}
% endfor
</div>
<p class="small">The same growing load was offered to both, a second at each rate. ${first_spread}</p>
% endif
</header>

<p>The same application, contract checks and upstreams under different gunicorn workers, on one machine:
${machine["processors"]} processors (${machine["processor"]}), ${machine["system"]} ${machine["release"]},
${machine["python"]}. The load generator, the load balancer and the upstreams ran on the same processors, at a higher
priority than the gateway. Measured from ${began} to ${ended} by</p>
${code([report["command"]])}
${sentences("The machine was not idle", disturbances)}
<h2>The figures</h2>
${table(table_rows, "Figures of each mode")}
<p class="small">In brackets is the spread of a figure: from the least to the most of its repetitions; where one request is
alone, of these requests; where each repetition has too few requests for a p99, an interval of 95 % of theirs together.</p>

% if asked:
<h2>What was asked</h2>
<p>Each request asks for the results of one experiment. Its response is composed of four upstream calls; the last three
are sent together, when the first has told what to ask. Every call takes ${"%g" % options["delay_ms"]} ms, so no response
can come before ${"%g" % (2 * options["delay_ms"])} ms, in any mode.</p>
${picture(asked)}
% endif

<h2>What each mode is</h2>
<div class="cards">
% for name, mode in report["modes"].items():
<section class="card mode-${name}">
<h3>${mode["title"]}</h3>
<dl>
<dt>gunicorn worker</dt><dd>${mode["worker_class"]}</dd>
<dt>processes</dt><dd>${mode["workers"]}</dd>
% if mode["threads"] is not None:
<dt>threads of each</dt><dd>${mode["threads"]}</dd>
% endif
% if mode["connections"] is not None:
<dt>connections of each, at most</dt><dd>${f"{mode['connections']:,}"}</dd>
% endif
<dt>calls of a request</dt><dd>${mode["fan_out"]}</dd>
</dl>
% if not mode["blocks_the_loop"]:
${code(mode["code"])}
% endif
</section>
% endfor
</div>

<h2>Why it comes out so</h2>
% if timelines:
<p>One worker of each mode, and four requests sent to it at once. Bars are upstream calls, as the upstreams saw them; the
pale bar behind them is the time until the response. Each picture has its own scale.</p>
<div class="pair">
% for each in timelines:
${picture(each)}
% endfor
</div>
% endif
% if slots:
<h3>What the slots of a mode can carry</h3>
<p>A worker of these modes holds one request in each of its processes or threads until the response is complete. By Little's
law, the slots divided by the time that a request holds one are the most requests per second.</p>
${table(slots, "Little's law beside the measured rates")}
<ul>
% for sentence in slots_words:
<li>${sentence}</li>
% endfor
</ul>
% endif
% for name, mode in blocked.items():
<h3>A view that blocks: ${mode["title"]}</h3>
<p>This view holds the event loop of its worker, and with it every other request there:</p>
${code(mode["code"])}
% if mode["watchdog"].get("commonest_warning"):
<p>The watchdog logged ${mode["watchdog"]["stalls"]} stalls\
% if mode["watchdog"]["longest_seconds"] is not None:
, the longest of ${"%g" % mode["watchdog"]["longest_seconds"]} s\
% endif
. The commonest warning names the line:</p>
${code(mode["watchdog"]["commonest_warning"])}
% endif
% endfor

% for each in charts:
<h2>${each.title}</h2>
% if each.caption:
<p>${each.caption.sentence}</p>
% endif
% if each.caption.parts:
<ul class="parts">
% for part in each.caption.parts:
<li>${part}</li>
% endfor
</ul>
% endif
<div class="pair">
% for one in each.pictures:
${picture(one)}
% endfor
</div>
% endfor

${sentences("Left out", report["summary"]["left_out"])}
<h2>5XX by class</h2>
% if errors:
${table([("mode", "scenario", "class", "5XX"), *errors], "5XX by class")}
% else:
<p>There were none.</p>
% endif
<p>${report["counting"]}</p>
<h2>Settings and versions</h2>
<details><summary>Settings</summary>
${table([("setting", "value"), *options.items()], "Settings")}</details>
<details><summary>Versions</summary>
${table([("package", "version"), *((name, found) for name, found in report["versions"].items() if found)], "Versions")}</details>
<p>No mode shares upstream calls between requests or caches responses. Every figure is in report.json.</p>
</main>
</body>
</html>
