"""The resources as typed models; `crds/` is generated from here."""
