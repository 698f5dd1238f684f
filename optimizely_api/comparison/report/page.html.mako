<%def name="cells(tag, row)">\
% for cell in row:
<${tag}>${cell}</${tag}>\
% endfor
</%def>\
<%def name="sentences(title, items)">
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
<title>Blocking against asyncio</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2.5rem }
figure { margin: 1rem 0 } img { max-width: 100%; height: auto } figcaption { color: #444 }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd }
td { text-align: right; font-variant-numeric: tabular-nums } td:first-child, th:first-child { text-align: left }
.scroll { overflow-x: auto } .interrupted { background: #fff3cd; padding: .6rem 1rem }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem }
</style>
</head>
<body>
<h1>Blocking against asyncio</h1>
% if options["quick"]:
<p class="interrupted">${smoke_test}</p>
% endif
% if report["interrupted"]:
<p class="interrupted">This comparison was interrupted: what is missing was not measured.</p>
% endif
<p>The same application, contract checks, upstreams and number of workers (${options["workers"]}) under different
gunicorn workers, on one machine: ${machine["processors"]} processors (${machine["processor"]}), ${machine["system"]}
${machine["release"]}, ${machine["python"]}. The load generator, the load balancer and the upstreams ran on the same
processors, at a higher priority than the gateway. Measured ${report["began"]}.</p>
<pre>${report["command"]}</pre>
${sentences("The machine was not idle", disturbances) | n}
<div class="scroll">
<table>
<tr>${cells("th", table[0]) | n}</tr>
% for row in table[1:]:
<tr>${cells("td", row) | n}</tr>
% endfor
</table>
</div>
% for chart in charts:
<h2>${chart.title}</h2>
<figure><img alt="${chart.title}" src="data:image/png;base64,${base64(chart.png)}">
<figcaption>${chart.caption}</figcaption></figure>
% endfor
${sentences("One request alone, computing, and a view that blocks", plain_words) | n}
% if watchdog.get("first_warning"):
<h2>The watchdog's log</h2>
<p>${watchdog["stalls"]} stalls in this mode, the longest of ${"%g" % watchdog["longest_seconds"]} s. The first warning:</p>
<pre>${"\n".join(watchdog["first_warning"])}</pre>
% endif
${sentences("Left out", left_out) | n}
<h2>5XX by class</h2>
% if errors:
<table>
<tr><th>mode</th><th>scenario</th><th>class</th><th>5XX</th></tr>
% for row in errors:
<tr>${cells("td", row) | n}</tr>
% endfor
</table>
% else:
<p>There were none.</p>
% endif
<p>${report["counting"]}</p>
<h2>Settings and versions</h2>
<pre>
% for name, value in options.items():
${name} = ${value}
% endfor
</pre>
<pre>
% for name, version in report["versions"].items():
% if version:
${name} ${version}
% endif
% endfor
</pre>
<p>No mode shares upstream calls between requests or caches responses. Every figure is in report.json.</p>
</body>
</html>
