"""A scraper of `/metrics` that reads what it is told as Prometheus does. Knows no figure."""

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.http import AsgiClient


class Scrape:
    """What one scrape has told: a number for each series."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self.series = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
        }

    @property
    def names(self) -> set[str]:
        """The names of all samples."""
        return {name for name, _ in self.series}

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum over the series of a name that have these labels."""
        return sum(
            value
            for (each, found), value in self.series.items()
            if each == name and labels.items() <= dict(found).items()
        )


async def scrape(client: AsgiClient, query: str = "") -> Scrape:
    """Ask for figures."""
    answer = await client.get(f"/metrics{query}")
    assert answer.status == 200, answer.text
    return Scrape(answer.text)
