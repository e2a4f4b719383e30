"""The portal: pages for people. HTML from templates, charts by plotly.js from the installed package, no build step."""
